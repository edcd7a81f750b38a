//go:build !linux && !darwin

package hostinfo

import "errors"

func sysctl(string) (string, error) { return "", errors.ErrUnsupported }

func affinity() []int { return nil }
