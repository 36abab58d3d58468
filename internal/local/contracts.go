package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sluice/internal/contract"
)

// contractsFolder is where a folder that keeps a pipeline keeps its contracts.
const contractsFolder = "contracts"

// KeptContracts reads the contracts that the folder dir keeps with its data; nil: none, so the
// built-in one.
func KeptContracts(dir string) ([]*contract.Contract, error) {
	if dir == "" {
		return nil, nil
	}
	folder := filepath.Join(dir, contractsFolder)
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	all, err := contract.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("the contracts that %s keeps: %w", dir, err)
	}
	return all, nil
}

// KeepContracts keeps the contracts in the folder dir beside its data, each in place of one of
// the same name, and returns all that are there.
func KeepContracts(dir string, given []*contract.Contract) ([]*contract.Contract, error) {
	if dir == "" || len(given) == 0 {
		return given, nil
	}
	folder := filepath.Join(dir, contractsFolder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	for _, c := range given {
		if err := os.WriteFile(filepath.Join(folder, c.Name+".yaml"), []byte(c.Text), 0o644); err != nil {
			return nil, err
		}
		if err := c.Schema.Write(folder); err != nil {
			return nil, err
		}
	}
	all, err := KeptContracts(dir)
	if err != nil {
		return nil, err
	}
	// The given ones first: the first one's topic is what events are sent to by default.
	sorted := append([]*contract.Contract(nil), given...)
	for _, c := range all {
		fresh := true
		for _, g := range given {
			fresh = fresh && g.Name != c.Name
		}
		if fresh {
			sorted = append(sorted, c)
		}
	}
	return sorted, contract.Together(sorted)
}
