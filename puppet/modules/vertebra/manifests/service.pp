# @summary The units of the node: running, and restarted only when a restart is due and it is this machine's turn.
#
# A certificate, a revocation list or a key of access tokens takes a reload. Everything else takes a restart, which waits
# for this machine's turn and for its neighbours to serve (`vertebra-restart`).
#
# @param restart_wait_seconds
#   How long a restart waits for its turn before this run gives up; the next run tries again.
class vertebra::service (
  Integer[60, 3600] $restart_wait_seconds = 600,
) {
  contain vertebra::service::reload

  $neighbours = $vertebra::site_peers.map |$name, $member| { $member['address'] }
  $order = ($vertebra::members.filter |$name, $member| { $member['datacentre'] == $vertebra::datacentre }).keys.sort
  $turn = $order.index($vertebra::certname)

  file { '/etc/vertebra/restart.env':
    ensure  => file,
    owner   => 'root',
    group   => 'root',
    mode    => '0644',
    content => epp('vertebra/restart.env.epp', {
        'neighbours'   => $neighbours.sort,
        'turn'         => $turn,
        'turns'        => length($order),
        'wait_seconds' => $restart_wait_seconds,
    }),
  }
  -> service { ['vertebra-disk.service', 'vertebra.socket', 'vertebra-peer.socket']:
    ensure => running,
    enable => true,
  }
  -> service { 'vertebra.service':
    ensure => running,
    enable => true,
  }
  -> exec { 'restart of vertebra, in turn':
    command => '/usr/lib/vertebra/vertebra-restart',
    onlyif  => '/usr/lib/vertebra/vertebra-restart due',
    timeout => $restart_wait_seconds + 300,
  }
  service { 'vertebra.target':
    enable => true,
  }
}
