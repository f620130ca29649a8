"""The experiments behind `notebooks/README.md`.

`catalogue` says what is compared with what, `variants` builds the networks, `runner` trains them
and keeps what `measures` finds, `report` and `plots` show it.
"""
