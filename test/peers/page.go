package main

// page is test/docs/scale.md: what was measured, and what follows from it.
const page = `# How it scales

Written by ` + "`./scripts/bench --scale`" + ` on {{.Day}}: generated events of 419 bytes from one Apache Kafka through bridge, a Pub/Sub
that pushes, and functions, to a BigQuery that answers at once; {{.CPU}}, {{.Cores}} cores, {{.Go}}. Kafka, Pub/Sub, the load balancer
and BigQuery run on the same cores, so that rates here are a lower bound; CPU is that of the bridge or the functions alone. All
settings are the defaults.

## Measured

Catching up with what waits in Kafka, one bridge and one instance of the functions, 6 partitions:

| events that wait | events/s | bridge, CPU s per million | functions, CPU s per million | bridge, MiB | functions, MiB |
|---|---|---|---|---|---|
{{range .R.Backlogs}}| {{count .Events}} | {{round .Rate}} | {{printf "%.2f" .BridgeCPU}} | {{printf "%.2f" .FunctionsCPU}} | {{round .BridgeMemory}} | {{round .FunctionMemory}} |
{{end}}
Of a small backlog the start of the processes is most; memory does not grow with what waits.

The same with more partitions:

| partitions | events/s | bridge, CPU s per million | functions, CPU s per million | bridge, MiB | functions, MiB |
|---|---|---|---|---|---|
{{range .R.Partitions}}| {{count .Partitions}} | {{round .Rate}} | {{printf "%.2f" .BridgeCPU}} | {{printf "%.2f" .FunctionsCPU}} | {{round .BridgeMemory}} | {{round .FunctionMemory}} |
{{end}}
A batch takes records of all partitions that an instance owns, so that many partitions do not make small messages.

More instances; memory is that of the largest process:

| bridges | functions | events/s | bridges, CPU s per million | functions, CPU s per million | bridge, MiB | functions, MiB |
|---|---|---|---|---|---|---|
{{range .R.Instances}}| {{.Bridges}} | {{.Functions}} | {{round .Rate}} | {{printf "%.2f" .BridgeCPU}} | {{printf "%.2f" .FunctionsCPU}} | {{round .BridgeMemory}} | {{round .FunctionMemory}} |
{{end}}
Instances share nothing, so that an event costs about the same CPU however many there are (up to a quarter more here, where they
contend): the model below rests on that. The rate
is what this machine's {{.Cores}} cores allow, which one instance of each fills already; more of them do not show here. The members had
joined before there was anything to do: a rebalance takes seconds, in which partitions that move stand still. An instance of the
functions takes about eight full batches at a time by its memory (` + "`MAX_INFLIGHT_BYTES`" + `) and answers 429 to more, which
Pub/Sub delivers again.

A steady rate, from Kafka's timestamp to the row's arrival at BigQuery:

| events/s | p50, ms | p99, ms | appends/s | bridge, CPU s per million | functions, CPU s per million | bridge, MiB | functions, MiB |
|---|---|---|---|---|---|---|---|
{{range .R.Rates}}| {{round .Rate}} | {{ms .P50}} | {{ms .P99}} | {{printf "%.1f" .Messages}} | {{printf "%.2f" .BridgeCPU}} | {{printf "%.2f" .FunctionsCPU}} | {{round .BridgeMemory}} | {{round .FunctionMemory}} |
{{end}}
Latency is the bridge's waiting for a batch that pays (` + "`LINGER` and `MAX_LINGER`" + `: bridge/README.md); in Google Cloud Pub/Sub's
and BigQuery's own tens of milliseconds come to it. A steady event costs more CPU than one of a backlog: Kafka gives few at a time, an
idle process looks after its timers, and the bridge compresses at the economic level, which costs 2 µs more and saves a sixth of
the bytes; when it falls behind it takes the fast one.

## The model

Processor time is a line through the lowest and the highest steady rate above: so much for each instance, and so much for each event.
An event has 60 bytes in Pub/Sub at the economic level of compression (72 at the fast one), and 365 in an append:

| | {{range .Plan}}{{count .Rate}} events/s | {{end}}
|---|{{range .Plan}}---|{{end}}
| from Kafka, MB/s, uncompressed | {{range .Plan}}{{printf "%.1f" .Kafka}} | {{end}}
| bridges, vCPU | {{range .Plan}}{{printf "%.2f" .BridgeCPU}} | {{end}}
| bridges of one vCPU, half loaded | {{range .Plan}}{{.Bridges}} | {{end}}
| published and pushed, MB/s each | {{range .Plan}}{{printf "%.1f" .Published}} | {{end}}
| functions, vCPU | {{range .Plan}}{{printf "%.2f" .FunctionsCPU}} | {{end}}
| functions of one vCPU, half loaded | {{range .Plan}}{{.Functions}} | {{end}}
| appended to BigQuery, MB/s | {{range .Plan}}{{printf "%.1f" .Appended}} | {{end}}
| of BigQuery's append quota in a multi-region (3 GB/s) | {{range .Plan}}{{printf "%.1f" .ShareOfAppend}} % | {{end}}
| of the one in a region (300 MB/s) | {{range .Plan}}{{printf "%.1f" .ShareOfAppendSingle}} % | {{end}}
| what is short first | {{range .Plan}}{{.First}} | {{end}}
| the setting that moves it | {{range .Plan}}{{.Setting}} | {{end}}

The processor of Cloud Run is another one: measure your own with your events (` + "`./scripts/cost`" + ` calibrates itself so) before
buying by these figures. What ` + "`./scripts/cost`" + ` counts in money is this model.

## What Google Cloud allows

These are documented defaults per project and region, most of which Google raises on request. They change: the pages decide.

| quota | default | at 1,000,000 events/s | source |
|---|---|---|---|
| Pub/Sub, publishing | 4 GB/s in large regions, less in others | 60 MB/s | https://cloud.google.com/pubsub/quotas |
| Pub/Sub, push | 440 MB/s in large regions, less in others: the smallest of Pub/Sub's | 60 MB/s; with ` + "`PAYLOAD_BUCKET`" + ` a message of about 200 bytes for each batch | the same page |
| BigQuery Storage Write API, throughput | 3 GB/s in the multi-regions US and EU, 300 MB/s in a region | 365 MB/s | https://cloud.google.com/bigquery/quotas#write-api-limits |
| BigQuery Storage Write API, connections | 10,000 in the multi-regions, 1,000 in a region | one for each instance of the functions and table | the same page |
| Cloud Run, instances | by the region's quota of CPU and memory; ` + "`max_instances`" + ` is the setting | see above | https://cloud.google.com/run/quotas |
| Kafka, members of a group | as many as partitions: another bridge idles | see above | https://kafka.apache.org/documentation/#intro_consumers |

A push subscription begins slowly and grows while pushes are answered quickly (https://cloud.google.com/pubsub/docs/push#push_delivery_rate):
after a standstill a backlog drains at a growing rate, not at once.
`
