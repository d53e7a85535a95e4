# One or more PEM blocks that are no private key.
type Vertebra::Pem = Pattern[/\A\s*-----BEGIN (CERTIFICATE|X509 CRL)-----/]
