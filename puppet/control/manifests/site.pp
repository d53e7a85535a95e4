# A machine without a role in its certificate is a stranger: it gets no catalog.
node default {
  unless $trusted['extensions']['pp_role'] and $trusted['extensions']['pp_datacenter'] {
    fail("${trusted['certname']} has no pp_role or pp_datacenter in its certificate; enrol it")
  }
  include vertebra
}
