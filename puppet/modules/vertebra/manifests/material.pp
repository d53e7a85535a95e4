# @summary One file of key material: given as text, or copied from a file of this machine.
#
# @param material
#   The text, or the absolute path of where it is.
# @param group
#   Who besides root may read it.
# @param mode
#   Its mode.
# @api private
define vertebra::material (
  Variant[Sensitive[String[1]], String[1]] $material,
  String[1] $group,
  Stdlib::Filemode $mode,
) {
  $content = $material ? {
    Stdlib::Absolutepath => {},
    Sensitive            => { 'content' => $material },
    default              => { 'content' => $material },
  }
  $source = $material ? {
    Stdlib::Absolutepath => { 'source' => $material },
    default              => {},
  }
  file { $title:
    ensure    => file,
    owner     => 'root',
    group     => $group,
    mode      => $mode,
    show_diff => false,
    backup    => false,
    *         => $content + $source,
  }
}
