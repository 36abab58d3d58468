package kafkaclient

import (
	"strings"
	"testing"
)

// Protects the bridge's promises from librdkafka properties that would break them without
// a word: each is refused, with what to do instead, and none of them reaches a client.
func TestPropertiesThatBreakAPromise(t *testing.T) {
	for property, want := range map[string]string{
		"auto.commit.interval.ms=0":                 "0 would switch committing off",
		"auto.commit.interval.ms=-1":                "from 1 to 3600000",
		"auto.commit.interval.ms=86400000":          "from 1 to 3600000",
		"auto.commit.interval.ms=1s":                "from 1 to 3600000",
		"topic.metadata.refresh.interval.ms=-1":     "new partitions",
		"topic.metadata.refresh.interval.ms=0":      "new partitions",
		"statistics.interval.ms=0":                  "stand still",
		"auto.commit.enable=false":                  "it is true",
		"enable.auto.commit=false":                  "it is true",
		"enable.auto.offset.store=true":             "it is false",
		"offset.store.method=none":                  "it is broker",
		"isolation.level=read_uncommitted":          "it is read_committed",
		"api.version.request=false":                 "neither headers nor timestamps",
		"broker.version.fallback=0.9.0.0":           "neither headers nor timestamps",
		"check.crcs=true":                           "it is false",
		"enabled_events=0":                          "Go binding",
		"log.queue=false":                           "Go binding",
		"group.protocol.type=connect":               "it is consumer",
		"default.topic.config={auto.offset.reset=}": "by themselves",
	} {
		var p Properties
		if err := p.Set(property); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", property, err, want)
		}
		if p.String() != "" {
			t.Errorf("%s is set although it was refused", property)
		}
		name, value, _ := strings.Cut(property, "=")
		variable := environment + strings.ToUpper(strings.ReplaceAll(name, ".", "_")) + "=" + value
		if err := p.FromEnvironment([]string{variable}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", variable, err, want)
		}
	}
	var p Properties
	for _, property := range []string{"auto.commit.interval.ms=500", "topic.metadata.refresh.interval.ms=1000",
		"session.timeout.ms=6000"} {
		if err := p.Set(property); err != nil {
			t.Error(err)
		}
	}
}
