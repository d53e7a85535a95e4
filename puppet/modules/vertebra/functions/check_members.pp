# @summary Refuses a list of machines that cannot be a cluster.
#
# Numbers and addresses are unique; in a cluster of more than one data centre none holds a majority of the voters, so that
# every commit is on two sites; a data centre without a node serves nobody and holds a witness only.
#
# @param members
#   The list.
# @return [Undef]
#   Nothing; a list that will not do ends the compilation.
function vertebra::check_members(Vertebra::Members $members) {
  ['id', 'address'].each |$key| {
    $values = $members.map |$name, $member| { $member[$key] }
    $twice = $values.filter |$value| { count($values, $value) > 1 }
    unless empty($twice) {
      $names = keys($members.filter |$name, $member| { $member[$key] in $twice })
      $said = join(unique($twice), ', ')
      fail("vertebra::members: ${join($names, ' and ')} have the same ${key} (${said}); give each its own")
    }
  }
  $datacentres = unique($members.map |$name, $member| { $member['datacentre'] })
  if length($datacentres) > 1 {
    $datacentres.each |$datacentre| {
      $here = $members.filter |$name, $member| { $member['datacentre'] == $datacentre }
      if 2 * length($here) > length($members) {
        $share = "${length($here)} of ${length($members)} voters"
        $advice = 'a commit must be on two sites, so add voters elsewhere (a witness on a third site)'
        fail("vertebra::members: ${datacentre} would hold ${share}, a majority; ${advice}")
      }
    }
  }
}
