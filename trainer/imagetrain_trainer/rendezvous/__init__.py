"""The group's rendezvous: what the supervisors of one group tell each other, and who decides what they do next.

No TensorFlow here: it runs in the supervisors.
"""
