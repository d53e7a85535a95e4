# @summary nftables: what is not named here does not get in.
#
# @param clients
#   Networks of clinical systems. A witness opens nothing to them.
# @param administrators
#   Networks that may use SSH, where an SSH server is installed.
# @param pings
#   Whether the machine answers pings.
class vertebra::firewall (
  Array[Vertebra::Network, 0, 256] $clients,
  Array[Vertebra::Network, 0, 64] $administrators = [],
  Boolean $pings = true,
) {
  $members = $vertebra::peers.map |$name, $member| { $member['address'] }
  $site = $vertebra::site_peers.map |$name, $member| { $member['address'] }
  package { 'nftables':
    ensure => installed,
  }
  -> file { '/etc/nftables.conf':
    ensure       => file,
    owner        => 'root',
    group        => 'root',
    mode         => '0644',
    content      => epp('vertebra/nftables.conf.epp', {
        'serves'         => $vertebra::role == 'node',
        'clients'        => $clients.sort,
        'administrators' => $administrators.sort,
        'monitors'       => $vertebra::metrics::monitors.sort,
        'members'        => $members.sort,
        'site'           => $site.sort,
        'pings'          => $pings,
    }),
    validate_cmd => '/usr/sbin/nft --check --file %',
  }
  ~> service { 'nftables.service':
    ensure  => running,
    enable  => true,
    # Its restart flushes first, for a moment without rules; a reload replaces them in one step.
    restart => '/bin/systemctl reload nftables.service',
  }
}
