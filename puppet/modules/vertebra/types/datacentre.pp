# Name of a data centre: what `pp_datacenter` says.
type Vertebra::Datacentre = Pattern[/\A[a-z][a-z0-9-]{0,30}\z/]
