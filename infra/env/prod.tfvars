# Instances kept warm, tables and services protected from deletion.
environment        = "prod"
bridge_instances   = 2
function_instances = { min = 1, max = 40 }
retention          = { events_days = null, dead_letters_days = 400 }
