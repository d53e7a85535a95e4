# @summary Has the running node read certificates and keys again. Requests and connections do not notice.
#
# @api private
class vertebra::service::reload {
  exec { 'vertebra reads certificates and keys again':
    command     => '/bin/systemctl reload vertebra.service',
    onlyif      => '/bin/systemctl is-active --quiet vertebra.service',
    refreshonly => true,
  }
}
