package faults

// others are the rows of the table whose tests are not of the matrix.
var others = []fault{
	{name: "bridge killed (-9) at random moments, fifty times", duplicates: "what was not committed, 1 s at most, and what was in flight", delay: "a restart and a rebalance"},
	{name: "two bridges, one killed (-9) in mid-rebalance", duplicates: "the same", delay: "the session timeout of the dead one"},
	{name: "functions killed (-9) while they serve, ten times", duplicates: "those in flight", delay: "a redelivery, 10 s"},
	{name: "one of three tables is gone, or has another schema", duplicates: none, delay: "its own events, until it is repaired; the other tables' land as ever"},
	{name: "poison in every position of a batch, batches of nothing else", duplicates: none, delay: "none; each is a dead letter with its reason, its neighbours land"},
	{name: "garbage and decompression bombs on the topic", duplicates: none, delay: "none; each payload is a dead letter, `undecodable_payload`"},
	{name: "records too large for Pub/Sub", duplicates: none, delay: "none; each is a dead letter, `too_large`, with its head, size and hash"},
	{name: "faults at random, several at once (the chaos run)", duplicates: "as above", delay: "as above"},
}
