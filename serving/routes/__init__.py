"""The HTTP interface: `application` joins the routes, `interface` defines their types and errors, and `calls` has what
they share: authentication, access to the job manager, and model look-up."""
