# Everything that can scale to zero does; everything can be deleted.
#
# What cannot scale to zero: a running bridge (a worker pool has no autoscaling),
# about $31 a month, and a Managed Kafka cluster, some hundreds of dollars.
# bridge_instances = 0 stops the first, managed_kafka = null avoids the second.
# Without events everything else costs what the tables store.
environment        = "test"
bridge_instances   = 1
function_instances = { min = 0, max = 5 }
retention          = { events_days = 14, dead_letters_days = 14 }
