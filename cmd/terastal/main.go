// Command terastal runs several neural networks at once, each with a rate and a deadline, layer by layer on the
// accelerators of a workstation. See `terastal --help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go interrupts(stop)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, context.Canceled) {
		err = errors.New(strings.Replace(err.Error(), context.Canceled.Error(), "interrupted", 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "terastal: "+err.Error())
	}
	os.Exit(exitCode(err))
}

// abortAfter is how many interrupts end the program at once.
const abortAfter = 3

// interrupts asks the program to finish what it is at and stop; more of them end it.
func interrupts(stop func()) {
	asked := make(chan os.Signal, abortAfter)
	signal.Notify(asked, os.Interrupt, syscall.SIGTERM)
	for n := 1; ; n++ {
		<-asked
		stop()
		if n >= abortAfter {
			fmt.Fprintln(os.Stderr, "terastal: interrupted at once")
			os.Exit(exitFailed)
		}
		fmt.Fprintf(os.Stderr, "stopping; interrupt %d more times to end at once\n", abortAfter-n)
	}
}
