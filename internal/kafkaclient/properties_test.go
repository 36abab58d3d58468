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

// Protects those who set a property by another variable than ours from a bridge that does without it: credentials would
// not be sent, another group's records be read. What Kubernetes sets for a service called kafka is none of that.
func TestMisnamedVariables(t *testing.T) {
	for variable, want := range map[string]string{
		"KAFKA_SASL_USERNAME":           "write KAFKA_CONFIG_SASL_USERNAME",
		"KAFKA_SASL_PASSWORD_FILE":      "write KAFKA_CONFIG_SASL_PASSWORD_FILE",
		"KAFKA_SECURITY_PROTOCOL":       "write KAFKA_CONFIG_SECURITY_PROTOCOL",
		"KAFKA_SSL_CA_LOCATION":         "write KAFKA_CONFIG_SSL_CA_LOCATION",
		"KAFKA_GROUP_ID":                "write KAFKA_GROUP,",
		"KAFKA_AUTO_OFFSET_RESET":       "write KAFKA_OFFSET_RESET",
		"KAFKA_CLIENT_ID":               "write CONSUMER_NAME",
		"KAFKA_BOOTSTRAP_SERVERS":       "", // KAFKA_BROKERS is set
		"KAFKA_SASL_MECHANISM":          "", // set rightly, too
		"KAFKA_SERVICE_HOST":            "",
		"KAFKA_PORT_9092_TCP_ADDR":      "",
		"KAFKA_SSL_SERVICE_PORT_BROKER": "",
		"KAFKA_SASL_PORT":               "",
		"KAFKA_HEAP_OPTS":               "",
		"KAFKA_CONFIG_SASL_USERNAME":    "",
		"KAFKA_GROUP":                   "",
		"NOT_KAFKA_SASL_USERNAME":       "",
	} {
		var p Properties
		if err := p.Set("sasl.mechanism=PLAIN"); err != nil {
			t.Fatal(err)
		}
		err := p.Misnamed([]string{variable + "=hush"}, func(flag string) bool { return flag == "kafka-brokers" })
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", variable, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: its value is shown", variable)
		}
	}
}
