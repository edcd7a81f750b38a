package sched

import "time"

// Outcome is how a job ended. Every released job gets exactly one.
type Outcome uint8

const (
	Pending Outcome = iota
	Met             // all layers done by the deadline
	Late            // all layers done, after the deadline
	Dropped         // given up by the scheduler, with a reason
	Failed          // a layer failed, with a reason
)

var outcomeNames = [...]string{"pending", "met", "late", "dropped", "failed"}

func (o Outcome) String() string { return outcomeNames[o] }

// RecordKind says what a Record reports.
type RecordKind uint8

const (
	// Released: a job arrived. At is when the driver noticed, Start the scheduled release that the deadline counts from,
	// Until the absolute deadline.
	Released RecordKind = iota
	// Dispatched: a layer was given to an accelerator. At is the decision, Start the predicted start where it is later,
	// Until the predicted finish, Reason the policy's.
	Dispatched
	// Completed: a layer ended. Start is when it really began, At when it ended.
	Completed
	// Ended: a job got its outcome. Start is its scheduled release, Until its deadline, Detail the reason of a drop or
	// failure; Accelerator is the one on which it failed, unless a Doomed has said that before.
	Ended
	// Down and Up: an accelerator left or re-entered service.
	Down
	Up
	// Stopped: the driver ended the run early.
	Stopped
	// RuleFound: a search that began at Start ended, and Implementation is the number of the rule that it found.
	RuleFound
	// Requeued: a layer failed on Accelerator, Detail says why, and its job waits to run it again.
	Requeued
	// Announced: a layer was about to end on Accelerator, at Until as predicted, and the next may be decided.
	Announced
	// Doomed: a layer failed on Accelerator, Detail says why, when its job had been given the next one already; the job
	// fails when that has ended.
	Doomed
)

var recordNames = [...]string{"release", "dispatch", "complete", "end", "down", "up", "stop", "search", "requeue",
	"ending", "doom"}

func (k RecordKind) String() string { return recordNames[k] }

// Record is one entry of the event log. Fields that do not apply to the kind are zero, Accelerator -1.
type Record struct {
	Kind           RecordKind
	Outcome        Outcome
	Reason         Reason
	Model          int32
	Layer          int32
	Implementation int32
	Accelerator    int32
	Job            int64
	At             time.Duration
	Start          time.Duration
	Until          time.Duration
	Detail         string
}

// Recorder receives every record of an engine, in order. It is called inside Step and must be quick.
type Recorder interface {
	Record(Record)
}
