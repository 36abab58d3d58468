package contract

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed presets/*.yaml
var presets embed.FS

// Presets returns the names of the contracts that come with Sluice.
func Presets() []string {
	entries, err := presets.ReadDir("presets")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Preset reads the contract of that name that comes with Sluice.
func Preset(name string) (*Contract, error) {
	if !slices.Contains(Presets(), name) {
		return nil, fmt.Errorf("contract: %q is no preset: use %s, or the name of a file", name, strings.Join(Presets(),
			", "))
	}
	return Read("presets/"+name+".yaml", presetText(name))
}

func presetText(name string) []byte {
	text, err := presets.ReadFile("presets/" + name + ".yaml")
	if err != nil {
		panic(err) // Presets has named it
	}
	return text
}
