//! ngx_http_weir_module
