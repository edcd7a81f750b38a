//go:build !linux

package runtime

import "time"

type threadTimes struct{}

func (*threadTimes) open()                             {}
func (*threadTimes) close()                            {}
func (*threadTimes) read() (ran, waited time.Duration) { return 0, 0 }
