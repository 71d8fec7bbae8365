#!/bin/bash
# What an administrator of a cloud does, by the OpenStack client.
#
#   pip install python-openstackclient
#   export OS_CLOUD=trunkline    # the clouds.yaml that `trunkline bootstrap` printed
#   examples/openstack/administrator.sh
#
# Each step is checked by what the client prints; the script stops at the first surprise.
# At the end, all that it made is gone again.
set -euo pipefail

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

run openstack project create guests
expect router openstack extension list --network -f value -c Alias

# Hosts and zones
expect trunkline-agent openstack network agent list -f value -c Binary
agent=$(openstack network agent list -f value -c ID | head -n 1)
expect "Trunkline agent" openstack network agent show "$agent" -f value -c agent_type
run openstack network agent set --disable --description "new disks" "$agent"
expect "new disks" openstack network agent show "$agent" -f value -c description
run openstack network agent set --enable --description "" "$agent"
expect nova openstack availability zone list --network -f value -c "Zone Name"

# A network on a VLAN of one's choice, lent to one project
run openstack network create --provider-network-type vlan --provider-physical-network physnet1 \
    --provider-segment 177 lent
expect 177 openstack network show lent -f value -c provider:segmentation_id
expect lent openstack network list --provider-segment 177 -f value -c Name
policy=$(openstack network rbac create --type network --action access_as_shared \
    --target-project guests lent -f value -c id)
expect "$policy" openstack network rbac list --action access_as_shared -f value -c ID
run openstack network rbac set --target-project admin "$policy"
expect access_as_shared openstack network rbac show "$policy" -f value -c action
run openstack network rbac delete "$policy"

# Other things that are lent likewise
run openstack security group create common
policy=$(openstack network rbac create --type security_group --action access_as_shared \
    --target-project guests common -f value -c id)
expect security_group openstack network rbac show "$policy" -f value -c object_type
run openstack network rbac delete "$policy"
run openstack security group delete common

# Quotas
run openstack quota set --networks 7 --ports 70 guests
expect "networks 7" openstack quota show --network guests -f value
expect "ports 70 0 0" openstack quota show --network --usage guests -f value
expect 70 openstack quota list --network -f value
run openstack quota delete --network guests

# A pool that subnets are cut from
run openstack subnet pool create --pool-prefix 10.64.0.0/16 --default-prefix-length 26 cuts
run openstack subnet pool set --pool-prefix 10.65.0.0/16 --tag spare cuts
expect 10.64.0.0/15 openstack subnet pool show cuts -f value -c prefixes
run openstack subnet create --network lent --subnet-pool cuts lent-v4
expect /26 openstack subnet show lent-v4 -f value -c cidr
expect lent openstack ip availability list -f value -c "Network Name"
run openstack subnet pool unset --tag spare cuts

# A scope, in which no two pools overlap
run openstack address scope create --share plan
run openstack subnet pool set --address-scope plan cuts
expect "$(openstack address scope show plan -f value -c id)" \
    openstack network show lent -f value -c ipv4_address_scope
run openstack address scope set --name layout plan
expect layout openstack address scope list -f value -c Name
run openstack subnet pool set --no-address-scope cuts
run openstack address scope delete layout
expect cuts openstack subnet pool list -f value -c Name

run openstack subnet delete lent-v4
run openstack subnet pool delete cuts
run openstack network delete lent
run openstack project delete guests
echo "the OpenStack client: an administrator's day"
