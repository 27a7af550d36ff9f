"""Fewer forward passes for the same precision: draws go to the images whose answers vary.

Estimand: the mean wrong rate of exactly these N images over all draws. Most images lie so far from
the boundary that no change of a few pixels flips them; a census shows each of them as often as the
others all the same. Here draws are allotted in rounds. Before each, what margins were seen so far
says how much every image's answers are likely to vary (`sensitivity`), and draws are allotted in
proportion (`allotment`; Neyman 1934). Each round's fresh draws give an estimate that is unbiased
whatever the guess was, and rounds are averaged with weights fixed beforehand, so the whole is
unbiased too (`estimate`); a wrong guess costs precision alone, and the interval says so.
"""
