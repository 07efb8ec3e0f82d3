"""`python -m app` is `jobs-gateway`."""

from app.cli import main

main()
