"""The experiments behind `notebooks/README.md`.

`catalogue` lists what is compared with what, `variants` builds the networks, `runner` trains them
and keeps what `measures` measures, `report` and `plots` show it.
"""
