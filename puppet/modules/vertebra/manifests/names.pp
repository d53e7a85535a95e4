# @summary `/etc/hosts`: the machines of the cluster find each other while no name server answers.
#
# @param others
#   More names, each with its address: what a site wants to be found without a name server too.
class vertebra::names (
  Hash[Stdlib::Host, Vertebra::Address] $others = {},
) {
  $members = $vertebra::members.reduce({}) |$all, $pair| { $all + { $pair[0] => $pair[1]['address'] } }
  file { '/etc/hosts':
    ensure  => file,
    owner   => 'root',
    group   => 'root',
    mode    => '0644',
    content => epp('vertebra/hosts.epp', { 'own' => $vertebra::certname, 'names' => $others + $members }),
  }
}
