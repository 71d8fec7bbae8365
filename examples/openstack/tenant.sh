#!/bin/bash
# A project's own network, from the first command to the last, by the OpenStack client.
#
#   pip install python-openstackclient
#   export OS_CLOUD=…            # a cloud of your clouds.yaml; any member of a project will do
#   examples/openstack/tenant.sh [EXTERNAL_NETWORK]
#
# Each step is checked by what the client prints; the script stops at the first surprise.
# At the end, all that it made is gone again.
set -euo pipefail

external=${1:-public}

# expect WORD COMMAND...: run a command, and insist on the word in what it prints.
expect() {
    local word=$1 said
    shift
    echo "\$ $*" >&2
    said=$("$@")
    [[ $said == *"$word"* ]] || { echo "expected '$word', was told: $said" >&2; exit 1; }
}

run() {
    echo "\$ $*" >&2
    "$@" >/dev/null
}

# Networks and subnets
run openstack network create --description "the blue one" --mtu 1400 blue
run openstack network set --tag production --name azure blue
expect azure openstack network list --tags production -f value -c Name
expect 1400 openstack network show azure -f value -c mtu
run openstack subnet create --network azure --subnet-range 10.31.0.0/24 \
    --allocation-pool start=10.31.0.10,end=10.31.0.99 --dns-nameserver 192.0.2.53 azure-v4
run openstack subnet set --host-route destination=198.51.100.0/24,gateway=10.31.0.9 azure-v4
expect 198.51.100.0/24 openstack subnet show azure-v4 -f value -c host_routes
run openstack subnet unset --host-route destination=198.51.100.0/24,gateway=10.31.0.9 \
    --dns-nameserver 192.0.2.53 azure-v4
expect 10.31.0.0/24 openstack subnet list --network azure -f value -c Subnet

# Security groups: the article's rule
run openstack security group create web
run openstack security group set --description "for web servers" web
expect "for web servers" openstack security group show web -f value -c description
rule=$(openstack security group rule create --protocol tcp --dst-port 1:65535 \
    --remote-ip 10.1.0.0/24 web -f value -c id)
expect 1:65535 openstack security group rule list web -f value -c "Port Range"
expect 10.1.0.0/24 openstack security group rule show "$rule" -f value -c remote_ip_prefix
run openstack security group rule delete "$rule"

# Ports
run openstack port create --network azure --fixed-ip subnet=azure-v4,ip-address=10.31.0.33 \
    --security-group web vm1
run openstack port set --allowed-address ip-address=10.31.0.200 --description "a server" vm1
expect 10.31.0.200 openstack port show vm1 -f value -c allowed_address_pairs
run openstack port unset --security-group web vm1
run openstack port set --no-allowed-address vm1
expect 10.31.0.33 openstack port list --network azure --long -f value -c "Fixed IP Addresses"

# IPv6 beside IPv4
expect slaac openstack subnet create --network azure --ip-version 6 --subnet-range fd00:31::/64 \
    --ipv6-ra-mode slaac --ipv6-address-mode slaac azure-v6 -f value -c ipv6_ra_mode
expect fd00:31::f8 openstack port list --network azure -f value -c "Fixed IP Addresses"
run openstack subnet delete azure-v6

# Routers
run openstack router create r1
run openstack router set --external-gateway "$external" r1
run openstack router add subnet r1 azure-v4
run openstack router add route --route destination=198.51.100.0/24,gateway=10.31.0.33 r1
expect 198.51.100.0/24 openstack router show r1 -f value -c routes
run openstack router unset --route destination=198.51.100.0/24,gateway=10.31.0.33 r1
expect r1 openstack router list -f value -c Name

# Floating IPs
address=$(openstack floating ip create --port vm1 "$external" -f value -c floating_ip_address)
expect 10.31.0.33 openstack floating ip show "$address" -f value -c fixed_ip_address
run openstack floating ip unset --port "$address"
run openstack floating ip set --port vm1 "$address"
expect "$address" openstack floating ip list --port vm1 -f value -c "Floating IP Address"
run openstack floating ip delete "$address"

# Single ports of a floating IP
shared=$(openstack floating ip create "$external" -f value -c floating_ip_address)
forwarding=$(openstack floating ip port forwarding create --port vm1 \
    --internal-ip-address 10.31.0.33 --internal-protocol-port 80 --external-protocol-port 8080 \
    --protocol tcp --description web "$shared" -f value -c id)
expect 8080 openstack floating ip port forwarding list "$shared" --protocol tcp -f value \
    -c "External Port"
run openstack floating ip port forwarding set --port vm1 --internal-ip-address 10.31.0.33 \
    --external-protocol-port 8443 --internal-protocol-port 443 "$shared" "$forwarding"
expect 8443 openstack floating ip port forwarding show "$shared" "$forwarding" -f value \
    -c external_port
expect "$forwarding" openstack floating ip show "$shared" -f value -c port_forwardings
run openstack floating ip port forwarding delete "$shared" "$forwarding"
run openstack floating ip delete "$shared"

# And all away again
run openstack router unset --external-gateway r1
run openstack router remove subnet r1 azure-v4
run openstack router delete r1
run openstack port delete vm1
run openstack security group delete web
run openstack subnet delete azure-v4
run openstack network unset --tag production azure
run openstack network delete azure
echo "the OpenStack client: a project's network made, used and removed"
