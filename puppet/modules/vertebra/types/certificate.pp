# Certificates: PEM text, or the absolute path of a file that is on the machine already.
type Vertebra::Certificate = Variant[Vertebra::Pem, Stdlib::Absolutepath]
