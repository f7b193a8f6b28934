# The scripts under their short names: `just`, then one of these. Each works without just as well: scripts/NAME.

# what there is
default:
    @just --list --unsorted

# lint, format, types, import contracts, docs in step: in a minute
check:
    scripts/check

# the tests on all cores: just test tests/deploy -k readme
test *options:
    scripts/test {{ options }}

# train, export, embed and draw on the packaged MNIST, into demo/
demo:
    scripts/demo

# figures measured on this machine: just bench embed
bench *section:
    scripts/bench {{ section }}

# the parsers of foreign bytes under a fuzzer
fuzz *options:
    scripts/fuzz {{ options }}

# write docs/commands.md from the help
commands:
    scripts/write_commands_page
