# @summary The address of the site: one of its ready nodes carries it.
#
# keepalived looks once a second whether the node is ready (`vertebra-ready`) and lets go of the address when it was not
# twice in a row. A planned restart keeps it: systemd holds the port meanwhile, and moving the address would break every
# open connection. When no node of the site is ready nobody carries it, and clients go to the other site
# (`puppet/README.md`).
#
# @param address
#   The address with its prefix length.
# @param router_id
#   VRRP's number, unique on the network segment.
# @param password
#   Shared by the site's nodes; keeps accidents apart, not attackers: the firewall lets in the site's nodes alone.
# @param interface
#   The network interface that carries it; without it, the one that has the machine's own address.
class vertebra::virtual_address (
  Vertebra::Cidr $address,
  Integer[1, 255] $router_id,
  Sensitive[Pattern[/\A[!-~]{8}\z/]] $password,
  Optional[Pattern[/\A[a-z][a-z0-9._-]{0,14}\z/]] $interface = undef,
) {
  $plain = $address.split('/')[0]
  $taken = $vertebra::members.filter |$name, $member| { $member['address'] == $plain }
  unless empty($taken) {
    fail("vertebra::virtual_address::address ${plain} is the own address of ${keys($taken)[0]}; take one that no machine has")
  }
  $nodes = ($vertebra::members.filter |$name, $member| {
      $member['datacentre'] == $vertebra::datacentre and $member['role'] == 'node'
  }).keys.sort

  # Cards are named after their places, so machines of one site may call them differently.
  $own = $vertebra::self['address']
  $having = pick($facts.dig('networking', 'interfaces'), {}).filter |$name, $card| {
    $own in pick($card['bindings'], []).map |$binding| { $binding['address'] }
  }
  if $interface == undef and empty($having) {
    fail("no network interface has the address ${own} of ${vertebra::certname}; name one in vertebra::virtual_address::interface")
  }

  package { 'keepalived':
    ensure => installed,
  }
  -> file { '/etc/keepalived/keepalived.conf':
    ensure       => file,
    owner        => 'root',
    group        => 'root',
    mode         => '0600',
    show_diff    => false,
    backup       => false,
    content      => Sensitive(epp('vertebra/keepalived.conf.epp', {
          'address'   => $address,
          'interface' => pick($interface, keys($having)[0]),
          'router_id' => $router_id,
          'password'  => $password.unwrap,
          'priority'  => 100 - $nodes.index($vertebra::certname),
          'own'       => $own,
          'peers'     => ($vertebra::site_peers.map |$name, $member| { $member['address'] }).sort,
    })),
    validate_cmd => '/usr/sbin/keepalived --config-test --use-file %',
  }
  ~> service { 'keepalived.service':
    ensure  => running,
    enable  => true,
    restart => '/bin/systemctl reload keepalived.service',
  }
}
