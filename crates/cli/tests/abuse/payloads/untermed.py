# T08's control: TERM alone does not end a program that ignores it; it answers afterwards.
import subprocess
program = "trap '' TERM; echo ready; read line; echo finished"
child = subprocess.Popen(["sh", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
child.stdout.readline()
child.terminate()
rest, _ = child.communicate("go on\n")
report(rest=rest)
