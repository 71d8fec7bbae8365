#!/bin/bash
# The network commands that `nova` had until python-novaclient 7.1.2, as administrator.
#
#   python3 -m venv nova && nova/bin/pip install python-novaclient==7.1.2 'setuptools<70'
#   export PATH=$PWD/nova/bin:$PATH OS_AUTH_URL=… OS_USERNAME=… OS_PASSWORD=… OS_PROJECT_NAME=… \
#       OS_USER_DOMAIN_ID=default OS_PROJECT_DOMAIN_ID=default
#   examples/nova/network.sh SERVER
#
# SERVER is an instance of the project's: by the name of its port, or by the port's device_id.
# Each step is checked by what the client prints; the script stops at the first surprise.
# At the end, all that it made is gone again.
set -euo pipefail

server=${1:?"usage: network.sh SERVER"}

# expect WORD COMMAND...: run a command, and insist on the word in what it prints.
expect() {
    local word=$1 said
    shift
    echo "\$ $*" >&2
    said=$("$@")
    [[ $said == *"$word"* ]] || { echo "expected '$word', was told: $said" >&2; exit 1; }
}

refused() {
    local word=$1 said
    shift
    echo "\$ $*   # refused" >&2
    if said=$("$@" 2>&1); then echo "was not refused: $said" >&2; exit 1; fi
    [[ $said == *"$word"* ]] || { echo "expected '$word', was told: $said" >&2; exit 1; }
}

run() {
    echo "\$ $*" >&2
    "$@" >/dev/null
}

field() { awk -F' *[|] *' -v name="$1" '$2 == name { print $3 }'; }

# Security groups: the article's rule, as printed there
expect "1         | 65535   | 10.1.0.0/24" nova secgroup-add-rule default tcp 1 65535 10.1.0.0/24
refused "already exists" nova secgroup-add-rule default tcp 1 65535 10.1.0.0/24
expect 10.1.0.0/24 nova secgroup-list-rules default
run nova secgroup-delete-rule default tcp 1 65535 10.1.0.0/24
expect front nova secgroup-create front "for web servers"
run nova secgroup-add-rule front icmp -1 -1 0.0.0.0/0
run nova secgroup-delete-rule front icmp -1 -1 0.0.0.0/0
expect default nova secgroup-add-group-rule front default tcp 80 80
run nova secgroup-delete-group-rule front default tcp 80 80
run nova add-secgroup "$server" front
expect front nova list-secgroup "$server"
run nova remove-secgroup "$server" front
run nova secgroup-update front porch "for the web"
expect porch nova secgroup-delete porch

# Networks: for a project, or waiting for one
run nova network-create teal --fixed-range-v4 10.61.0.0/24 --vlan-start 150 --dns1 192.0.2.53 \
    --allowed-start 10.61.0.10 --allowed-end 10.61.0.99 --multi-host T
expect 10.61.0.0/24 nova network-list
teal=$(nova network-show teal | field id)
run nova network-associate-project "$teal"
expect "br1" nova network-show teal
run nova network-disassociate "$teal"
refused "associated with no host" nova network-associate-host "$teal" compute1
refused "made with an IPv4 prefix" nova network-create v6 --fixed-range-v6 2001:db8::/64
run nova network-delete teal

# Floating IPs, from a pool that is made of a range
run nova floating-ip-bulk-create 203.0.113.0/29 --pool spare
expect spare nova floating-ip-pool-list
refused overlap nova floating-ip-bulk-create 203.0.113.0/29 --pool spare
expect 203.0.113.1 nova floating-ip-create spare
run nova floating-ip-associate "$server" 203.0.113.1
expect 203.0.113.1 nova list
expect "$server" nova show "$server"
expect 203.0.113.1 nova floating-ip-list
run nova floating-ip-disassociate "$server" 203.0.113.1
run nova floating-ip-delete 203.0.113.1
expect 203.0.113.6 nova floating-ip-bulk-list
run nova floating-ip-bulk-delete 203.0.113.0/29

echo "Nova's network commands: made, used and removed."
