"""The commands: each module declares its own in `add_to` and says what they do; what one needs is imported when it
runs. `restore_dit.cli.MODULES` names them all."""
