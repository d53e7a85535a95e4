# What a machine is: `node` votes and serves clients, `witness` votes and serves none.
type Vertebra::Role = Enum['node', 'witness']
