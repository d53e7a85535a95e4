# A private key: its PEM text, wrapped so that no log or report shows it, or the absolute path of a file that is on the
# machine already and never leaves it.
type Vertebra::Privatekey = Variant[Sensitive[Pattern[/\A\s*-----BEGIN ([A-Z]+ )?PRIVATE KEY-----/]], Stdlib::Absolutepath]
