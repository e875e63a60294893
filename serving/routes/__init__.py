"""The HTTP interface: `application` joins the routes, `interface` has their types and errors, `calls` what they share:
who calls, what the desk says, which model is meant."""
