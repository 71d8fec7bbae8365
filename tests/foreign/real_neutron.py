"""A real Neutron's API on SQLite: installed from PyPI once, kept in .cache, on a free port.

Without a message bus; who asks is what the headers say, as behind Keystone. Two hosts seem to have
agents, which never say a word, so that ports can be bound to them.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packages import environment

from trunkline.lab.waiting import limit_s, until

NEUTRON = "neutron>=29,<30"

SETTINGS = """\
[DEFAULT]
core_plugin = ml2
service_plugins = router,qos,port_forwarding
auth_strategy = keystone
api_paste_config = {0}/paste.ini
transport_url = fake://
state_path = {0}
log_file = {0}/neutron.log
allow_overlapping_ips = true
dns_domain = internal.
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
agent_down_time = 1000000
rpc_workers = 0
api_workers = 0
[oslo_messaging_notifications]
driver = noop
[oslo_concurrency]
lock_path = {0}/lock
[database]
connection = sqlite:///{0}/neutron.db
[quotas]
default_quota = -1
quota_network = -1
quota_subnet = -1
quota_port = -1
quota_router = -1
quota_floatingip = -1
quota_security_group = -1
quota_security_group_rule = -1
quota_rbac_policy = -1
quota_driver = neutron.db.quota.driver_nolock.DbQuotaNoLockDriver
[ml2]
type_drivers = flat,vlan
tenant_network_types = vlan
mechanism_drivers = openvswitch
extension_drivers = port_security,dns,qos
[ml2_type_flat]
flat_networks = *
[ml2_type_vlan]
network_vlan_ranges = physnet1:100:3999
"""

PASTE = """\
[composite:neutron]
use = egg:Paste#urlmap
/v2.0: v2
[pipeline:v2]
pipeline = request_id catch_errors context extensions api
[filter:request_id]
paste.filter_factory = oslo_middleware:RequestId.factory
[filter:catch_errors]
paste.filter_factory = oslo_middleware:CatchErrors.factory
[filter:context]
paste.filter_factory = neutron.auth:NeutronKeystoneContext.factory
[filter:extensions]
paste.filter_factory = neutron.api.extensions:plugin_aware_extension_middleware_factory
[app:api]
paste.app_factory = neutron.api.v2.router:APIRouter.factory
"""

HOSTS = ("h1", "h2")

SERVE = (
    f"HOSTS = {HOSTS}\n"
    """\
import os, sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

directory, port = sys.argv.pop(1), int(sys.argv.pop(1))
os.environ["OS_NEUTRON_CONFIG_DIR"] = directory
os.environ["OS_NEUTRON_CONFIG_FILES"] = "neutron.conf"
import sqlalchemy
from neutron.db.migration.models import head

engine = sqlalchemy.create_engine(f"sqlite:///{directory}/neutron.db")
head.get_metadata().create_all(engine)
from datetime import datetime
from json import dumps
from uuid import uuid4

with engine.begin() as connection:
    connection.execute(
        sqlalchemy.insert(head.get_metadata().tables["agents"]),
        [
            {
                "id": str(uuid4()),
                "agent_type": "Open vSwitch agent",
                "binary": "neutron-openvswitch-agent",
                "topic": "N/A",
                "host": host,
                "created_at": datetime.utcnow(),
                "started_at": datetime.utcnow(),
                "heartbeat_timestamp": datetime.utcnow(),
                "configurations": dumps({"bridge_mappings": {"physnet1": "br-trunk"}}),
            }
            for host in HOSTS
        ],
    )
engine.dispose()
from neutron.wsgi.api import application

class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass

make_server("127.0.0.1", port, application, handler_class=Quiet).serve_forever()
"""
)
"""One thread, as SQLite has one writer. Tables come from the models: the migrations are MySQL's."""

DEFAULT_RULES = [
    {
        "direction": direction,
        "ethertype": ethertype,
        "remote_group_id": "PARENT" if direction == "ingress" else None,
        "used_in_default_sg": True,
        "used_in_non_default_sg": direction == "egress",
    }
    for ethertype in ("IPv4", "IPv6")
    for direction in ("egress", "ingress")
]
"""What Neutron's migrations would have put there."""


@dataclass
class RealNeutron:
    """A Neutron that runs."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]
    kept: list[http.client.HTTPConnection] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.port}"

    def call(
        self, who: tuple[str, str], method: str, path: str, body: Any = None
    ) -> tuple[int, Any]:
        """Send a request as (project, role) and return status and JSON."""
        project, role = who
        headers = {
            "Content-Type": "application/json",
            "X-User-Id": f"user-of-{project}",
            "X-Project-Id": project,
            "X-Tenant-Id": project,
            "X-Roles": ",".join(ROLES[role]),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=limit_s(60))
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()


ROLES = {
    "admin": ("admin", "member", "reader"),
    "member": ("member", "reader"),
    "service": ("service",),
}


@contextmanager
def real_neutron(directory: Path) -> Iterator[RealNeutron]:
    """Lend a fresh Neutron; skip if PyPI is out of reach."""
    python = environment("neutron-29", NEUTRON) / "bin" / "python"
    (directory / "neutron.conf").write_text(SETTINGS.format(directory))
    (directory / "paste.ini").write_text(PASTE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [python, "-c", SERVE, directory, str(port)], stdout=output, stderr=output
        )
    neutron = RealNeutron(directory, port, process)
    try:
        until("Neutron answers", lambda: _answers(neutron), 120)
        for rule in DEFAULT_RULES:
            wish = {"default_security_group_rule": rule}
            status, answer = neutron.call(
                ("padmin", "admin"), "POST", "/v2.0/default-security-group-rules", wish
            )
            assert status == 201, answer
        yield neutron
    finally:
        process.terminate()
        process.wait(limit_s(20))


def _answers(neutron: RealNeutron) -> bool:
    assert neutron.process.poll() is None, (neutron.directory / "output").read_text()[-3000:]
    try:
        neutron.call(("padmin", "admin"), "GET", "/v2.0/extensions")
    except OSError:
        return False
    return True
