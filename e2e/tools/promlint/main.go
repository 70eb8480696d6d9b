// Judges metrics in the text format, in the file named, by the rules that `promtool check metrics`
// applies, and tells what breaks them. promtool itself would take the service discovery of every
// cloud along.
package main

import (
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func main() {
	file, err := os.Open(os.Args[1])
	if err == nil {
		err = judge(promlint.New(file))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(linter *promlint.Linter) error {
	problems, err := linter.Lint()
	for _, problem := range problems {
		err = fmt.Errorf("rules are broken")
		fmt.Fprintln(os.Stderr, problem.Metric+":", problem.Text)
	}
	return err
}
