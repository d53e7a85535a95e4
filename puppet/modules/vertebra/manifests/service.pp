# @summary The units of the node: running, and restarted only when a restart is due and it is this machine's turn.
#
# A certificate, a revocation list or a key of access tokens takes a reload. Everything else takes a restart, which waits
# for this machine's turn, for its neighbours to serve and for a majority without it (`vertebra-restart`).
#
# @param restart_wait_seconds
#   How long a restart waits for its turn before this run gives up, at least one round of all members; the next run tries again.
class vertebra::service (
  Integer[60, 3600] $restart_wait_seconds = 600,
) {
  contain vertebra::service::reload

  $neighbours = $vertebra::site_peers.map |$name, $member| { $member['address'] }
  # Of all members: two sites that restart a node each at once could take the majority away.
  $order = $vertebra::members.keys.sort
  $turn = $order.index($vertebra::certname)
  $wait_seconds = max($restart_wait_seconds, 60 * (length($order) + 1))

  file { '/etc/vertebra/restart.env':
    ensure  => file,
    owner   => 'root',
    group   => 'root',
    mode    => '0644',
    content => epp('vertebra/restart.env.epp', {
        'neighbours'   => $neighbours.sort,
        'turn'         => $turn,
        'turns'        => length($order),
        'wait_seconds' => $wait_seconds,
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
    timeout => $wait_seconds + 300,
  }
  service { 'vertebra.target':
    enable => true,
  }
}
