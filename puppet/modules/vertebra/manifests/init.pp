# @summary Makes this machine what its certificate says it is: a node or the witness of one data centre.
#
# Who this machine is comes from its certificate alone (`trusted.certname`, `pp_role`, `pp_datacenter`). `members` is the
# one list of all machines; everything that has to agree between them is derived from it: numbers, peers, replicas,
# sentinels, brokers, firewall. A machine that is not in the list, or whose certificate says another role or data centre
# than the list, gets no catalog.
#
# @param members
#   All machines of the cluster.
# @param settings
#   What a site chooses of the node's configuration; merged over all levels of Hiera.
# @param role
#   From the certificate.
# @param datacentre
#   From the certificate.
# @param manage_firewall
#   Whether nftables is this module's. A machine without it is open to its network.
# @param manage_time
#   Whether chrony is this module's.
# @param manage_brokers
#   Whether Redis, Sentinel and RabbitMQ are this module's.
# @param manage_address
#   Whether a node carries the address of its site (keepalived).
#
# @example As `site.pp` does it
#   include vertebra
class vertebra (
  Vertebra::Members $members,
  Vertebra::Settings $settings = {},
  Vertebra::Role $role = $trusted['extensions']['pp_role'],
  Vertebra::Datacentre $datacentre = $trusted['extensions']['pp_datacenter'],
  Boolean $manage_firewall = true,
  Boolean $manage_time = true,
  Boolean $manage_brokers = true,
  Boolean $manage_address = true,
) {
  $certname = $trusted['certname']
  unless $certname in $members {
    fail("${certname} is not in vertebra::members; add it there, with its number, role, data centre and address")
  }
  $self = $members[$certname]
  unless $self['role'] == $role and $self['datacentre'] == $datacentre {
    $listed = "a ${self['role']} of ${self['datacentre']} in vertebra::members"
    $proved = "a ${role} of ${datacentre} in its certificate"
    fail("${certname} is ${listed} and ${proved}; enrol it again or correct the list")
  }
  vertebra::check_members($members)

  $peers = $members.filter |$name, $member| { $name != $certname }
  $site_peers = $peers.filter |$name, $member| { $member['datacentre'] == $datacentre and $member['role'] == 'node' }

  contain vertebra::names
  contain vertebra::install
  contain vertebra::secrets
  if $manage_brokers {
    contain vertebra::events
    contain vertebra::sharing
    Class['vertebra::secrets'] -> Class['vertebra::events', 'vertebra::sharing'] -> Class['vertebra::config']
  }
  contain vertebra::config
  contain vertebra::service
  contain vertebra::logs
  contain vertebra::metrics
  Class['vertebra::install'] -> Class['vertebra::secrets'] -> Class['vertebra::config'] -> Class['vertebra::service']
  Class['vertebra::logs'] -> Class['vertebra::service'] -> Class['vertebra::metrics']

  if $manage_firewall {
    contain vertebra::firewall
    Class['vertebra::firewall'] -> Class['vertebra::service']
  }
  if $manage_time {
    contain vertebra::time
    Class['vertebra::time'] -> Class['vertebra::service']
  }
  if $manage_brokers {
    contain vertebra::redis
    contain vertebra::rabbitmq
    Class['vertebra::names'] -> Class['vertebra::rabbitmq']
    # The disk first, and the users with their fixed numbers.
    Class['vertebra::install'] -> Class['vertebra::redis', 'vertebra::rabbitmq']
    Service['vertebra-disk.service'] -> Class['vertebra::redis', 'vertebra::rabbitmq']
  }
  if $manage_address and $role == 'node' {
    contain vertebra::virtual_address
    # Nobody is sent here before there is somebody to answer.
    Class['vertebra::service'] -> Class['vertebra::virtual_address']
  }
}
