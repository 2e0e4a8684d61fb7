"""`python -m producer` is the `producer` command."""

from producer.cli.main import main

main()
