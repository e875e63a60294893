"""The commands of `restore-dit`. Each module declares its commands in `add_to` and implements them. A command imports
what it needs only when it runs, which keeps `--help` fast. `restore_dit.cli.MODULES` lists the modules."""
