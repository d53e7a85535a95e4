# Name in a machine's certificate.
type Vertebra::Certname = Pattern[/\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){1,9}\z/]
