"""The commands of `restore-dit` that are not jobs. A command imports what it needs only when it runs, which keeps
`--help` fast; `restore_dit.cli` lists them."""
