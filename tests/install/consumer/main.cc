// A program outside the project: sees the installed headers and library only.
#include <switchyard/context.h>
#include <switchyard/version.h>

#include <cstdio>
#include <string>

int main() {
  switchyard::Context context({.threads = 2, .isa = switchyard::Isa::portable});
  std::printf("switchyard %s\n", std::string(switchyard::version()).c_str());
}
