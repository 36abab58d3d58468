package livepage

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is how a part of the pipeline is.
type State string

// The states.
const (
	Good State = "good"
	Busy State = "busy" // works, but somebody waits or something is refused
	Bad  State = "bad"
)

// Part is one part of the picture.
type Part struct {
	ID      string   `json:"id"`
	State   State    `json:"state"`
	Says    string   `json:"says"` // the state in words
	Numbers []Number `json:"numbers"`
}

// Number is a number on a part. The page formats it by its unit: "/s", "ms"
// (negative: unknown), "" for a count.
type Number struct {
	Label string  `json:"label"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// symptoms is what can be seen of the parts from outside. The states follow from
// them and not from the switches: the page must show trouble of any origin.
type symptoms struct {
	kafkaUp, warehouseUp, functionsUp bool

	bridges   int
	joined    bool // every bridge has its partitions
	failing   bool // a publish is refused and tried again
	lag       int64
	oldest    time.Duration // of what the bridge has taken and not got acknowledged
	arriving  float64       // records a second into Kafka
	ingest    recent
	dead      recent
	backlog   int // messages, of the pipeline's subscription
	dlBacklog int
}

// recent is the deliveries to a function in the last seconds.
type recent struct {
	acks, retries, refused int64
	appends                []float64 // milliseconds
	error                  string    // of the latest retry
}

func (r *recent) add(d *Delivery) {
	switch d.Outcome {
	case "ack":
		r.acks++
		r.appends = append(r.appends, d.AppendMS)
		r.refused += d.Refused
	case "retry", "busy":
		r.retries++
		if r.error == "" {
			r.error = d.Error
		}
	}
}

// typicalAppend is the median time of an append.
func (r *recent) typicalAppend() time.Duration {
	if len(r.appends) == 0 {
		return 0
	}
	slices.Sort(r.appends)
	return time.Duration(r.appends[len(r.appends)/2] * float64(time.Millisecond))
}

// slow is from when an append or a delay is worth a colour.
const slow = time.Second

// many is from how many messages on a backlog is no longer what is on its way.
const many = 100

func (s *symptoms) kafka() (State, string) {
	if !s.kafkaUp {
		return Bad, "unreachable"
	}
	return Good, "takes records"
}

func (s *symptoms) bridge() (State, string) {
	switch {
	case s.bridges == 0:
		return Bad, "none runs: records wait in Kafka"
	case !s.kafkaUp:
		return Busy, "waits for Kafka"
	case s.failing:
		return Busy, "tries again, skips nothing"
	case !s.joined:
		return Busy, "joins its group"
	case float64(s.lag) > max(2000, 5*s.arriving), s.oldest > 5*time.Second:
		return Busy, "catches up"
	}
	return Good, "keeps up"
}

func (s *symptoms) pubsub() (State, string) {
	switch {
	case s.failing:
		return Bad, "refuses what is published"
	case s.backlog > many:
		return Busy, "keeps what cannot be delivered"
	}
	return Good, "delivers"
}

func function(up bool, r *recent) (State, string) {
	switch {
	case !up:
		return Bad, "no instance runs"
	case r.retries > 0 && r.acks == 0:
		return Busy, "answers 503: deliver it again"
	case r.retries > 0:
		return Busy, "answers some with 503"
	}
	return Good, "acknowledges"
}

func table(up, functionUp bool, r *recent) (State, string) {
	took := r.typicalAppend()
	switch {
	case !up:
		return Bad, "unreachable"
	case functionUp && r.retries > 0 && r.acks == 0 && strings.Contains(r.error, "append"):
		return Bad, "refuses appends"
	case r.refused > 0:
		return Busy, "refuses single rows"
	case took > slow:
		return Busy, fmt.Sprintf("slow: %.1f s an append", took.Seconds())
	}
	return Good, "takes rows"
}

func (s *symptoms) deadLetterTopic() (State, string) {
	if s.dlBacklog > many {
		return Busy, "keeps what cannot be delivered"
	}
	return Good, "delivers"
}
