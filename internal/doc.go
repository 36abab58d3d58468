// Package internal holds no code of its own. Its test checks which of the project's packages
// may need which others: CONTRIBUTING.md has the rule.
package internal
