// Package design designs layer variants for the networks of a system. A [Designer] finds where variants are wanted, has
// candidates measured on a [Bench], fits those that are fast enough, chooses, proves what it chose, and leaves out what
// costs too much. It also takes variants that an earlier plan has ([Designer.Use]), that were fitted elsewhere
// ([Designer.Take]) or that a user brings ([Designer.Add]).
//
// After each of these, the networks' variants are those in use, and [Designer.Documents] is what a plan holds of them.
// Nothing is written before [Designer.Save]. Families and fits are those of package variants,
// proofs those of package variants/accuracy.
package design
