package contract

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
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

// Named reads the preset of that name, or else the contract in the file of that name.
func Named(name string) (*Contract, error) {
	if slices.Contains(Presets(), name) {
		return Preset(name)
	}
	c, err := ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; nor is it a preset: %s", err, strings.Join(Presets(), ", "))
	}
	return c, err
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
