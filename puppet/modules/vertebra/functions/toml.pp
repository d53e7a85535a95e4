# @summary A value as TOML writes it.
#
# @param value
#   A string, number, truth value or a list of strings.
# @return [String]
#   The text to the right of the equals sign.
function vertebra::toml(Variant[String, Integer, Boolean, Array[String]] $value) >> String {
  case $value {
    Array: {
      $items = $value.map |$item| { vertebra::toml($item) }
      "[${join($items, ', ')}]"
    }
    # TOML's basic strings and JSON's agree in what they escape.
    String: { to_json($value) }
    default: { String($value) }
  }
}
