# Instances kept warm, tables and services protected from deletion. Two bridges, so
# that one goes on while the other is replaced: about $62 a month. One idle
# instance of Ingest: about $13.
environment        = "prod"
bridge_instances   = 2
function_instances = { min = 1, max = 40 }
retention          = { events_days = null, dead_letters_days = 400 }
