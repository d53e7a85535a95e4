# @summary The binary, the units and the programs they run.
#
# On an appliance they are in the image and this class only looks that they are. On an ordinary Debian machine they come
# from a folder or a file server.
#
# @param source
#   `image`, or where the files of a release are: a folder on this machine or a `puppet:///` address that holds
#   `vertebra` and the folder `systemd`.
class vertebra::install (
  Variant[Enum['image'], Stdlib::Filesource] $source = 'image',
) {
  if $source == 'image' {
    # A catalog for an appliance that lands on something else stops here, with this sentence, and not half way.
    exec { 'vertebra is in the image':
      command => '/bin/sh -c "echo \'/usr/bin/vertebra is missing: boot a release, or set vertebra::install::source\' >&2; exit 1"',
      unless  => '/usr/bin/test -x /usr/bin/vertebra -a -e /lib/systemd/system/vertebra.service',
    }
  } else {
    $programs = ['vertebra-disk', 'vertebra-ready', 'vertebra-restart', 'vertebra-redis-config']
    $units = [
      'vertebra.service', 'vertebra.socket', 'vertebra-peer.socket', 'vertebra.slice', 'vertebra.target',
      'vertebra-disk.service', 'vertebra-metrics.socket', 'vertebra-metrics.service',
    ]
    file {
      default:
        ensure => file,
        owner  => 'root',
        group  => 'root',
        mode   => '0644',
        ;
      '/usr/bin/vertebra':
        source => "${source}/vertebra",
        mode   => '0755',
        ;
      '/usr/lib/vertebra':
        ensure => directory,
        mode   => '0755',
        ;
      '/usr/lib/sysusers.d/vertebra.conf':
        source => "${source}/systemd/sysusers.d/vertebra.conf",
        ;
      '/usr/lib/tmpfiles.d/vertebra.conf':
        source => "${source}/systemd/tmpfiles.d/vertebra.conf",
        ;
    }
    $programs.each |$name| {
      file { "/usr/lib/vertebra/${name}":
        ensure => file,
        owner  => 'root',
        group  => 'root',
        mode   => '0755',
        source => "${source}/systemd/${name}",
      }
    }
    $units.each |$name| {
      file { "/etc/systemd/system/${name}":
        ensure => file,
        owner  => 'root',
        group  => 'root',
        mode   => '0644',
        source => "${source}/systemd/${name}",
      }
    }
    exec { 'vertebra users and folders':
      command     => '/bin/sh -c "systemd-sysusers vertebra.conf && systemd-tmpfiles --create vertebra.conf"',
      path        => '/usr/bin:/bin',
      refreshonly => true,
      subscribe   => File['/usr/lib/sysusers.d/vertebra.conf', '/usr/lib/tmpfiles.d/vertebra.conf'],
    }
  }
}
