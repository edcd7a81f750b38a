// Package glyphs renders a labelled data set of single characters: the Go fonts under random affine maps, with clutter,
// uneven light, blur, noise and either polarity. It is there to train and to judge small networks for accuracy with
// nothing downloaded. It does not read text: the glyph to name is the large one in the middle, whatever else is in the
// picture.
//
// An image is Size x Size gray pixels. All about it, its label included, follows from its 64-bit id, and every Split
// has its range of ids, so that no image is in two splits and any of them can be rendered alone, in any order, by any
// number of goroutines. The renderer computes with integers only: the same id gives the same bytes on every machine.
package glyphs
